/* Empty: LuaJIT knows these types itself. */
