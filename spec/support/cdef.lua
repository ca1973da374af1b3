-- SPDX-License-Identifier: MIT
-- Writes one file of declarations for LuaJIT's FFI from the C headers, so that the specs call the C
-- functions by the very declarations that the C files were compiled with.
--   luajit spec/support/cdef.lua OUT HEADER...
-- Headers that need a library's header (uv.h, yaml.h, lua.h) or hold function bodies cannot be
-- declared and are left out; the output names them.
local out_path = arg[1]
local cc = os.getenv("CC") or "cc"
local flags = "-E -P -nostdinc -DSEGUE_CDEF -DSEGUE_NO_INLINE -DSEGUE_TEST "
  .. "'-D__attribute__(x)=' '-D_Static_assert(x,y)=' -I spec/support/cdef -I . -x c -"

-- Small inline functions have no symbol to call: their bodies are taken out.
local function without_inline(text)
  return (text:gsub("static%s+inline[^;{]-%b()%s*%b{}", ""))
end

local function preprocess(text, quiet)
  local input = os.tmpname()
  local file = assert(io.open(input, "w"))
  file:write(text)
  file:close()
  local pipe = assert(io.popen(cc .. " " .. flags .. " < " .. input
    .. (quiet and " 2>/dev/null" or "") .. "; echo \"//status $?\""))
  local result = pipe:read("*a")
  pipe:close()
  os.remove(input)
  local body, status = result:match("^(.*)//status (%d+)\n$")
  return tonumber(status) == 0 and without_inline(body) or nil
end

-- Constants: macros whose value is a number, which the preprocessor would swallow.
local seen = {}
local function constants(path, into)
  for line in io.lines(path) do
    local name, value = line:match("^#define%s+(SEGUE_[A-Z_0-9]+)%s+(%-?%d+)%s*")
    if name and not seen[name] then
      seen[name] = true
      into[#into + 1] = ("static const int %s = %s;"):format(name, value)
    end
  end
end

local umbrella, left_out, numbers = {}, {}, {}
for i = 2, #arg do
  local path = arg[i]
  local text = preprocess(('#include "%s"\n'):format(path), true)
  if not text then
    left_out[#left_out + 1] = "// left out, includes a library's header: " .. path
  elseif text:find("%f[%w_]static%s") or text:find("%f[%w_]_Thread_local%s")
      or text:find("%f[%w_]_Atomic%f[^%w_]") then
    left_out[#left_out + 1] = "// left out, holds definitions: " .. path
  else
    umbrella[#umbrella + 1] = ('#include "%s"\n'):format(path)
    constants(path, numbers)
  end
end

local text = assert(preprocess(table.concat(umbrella), false), "preprocessing the headers failed")
-- Functions of libuv and the C library that the specs call themselves.
local extra = [[
size_t uv_loop_size(void);
int uv_loop_init(struct uv_loop_s *loop);
int uv_loop_close(struct uv_loop_s *loop);
int uv_loop_alive(const struct uv_loop_s *loop);
int uv_run(struct uv_loop_s *loop, int mode);
int uv_backend_fd(const struct uv_loop_s *loop);
void *malloc(size_t size);
void free(void *p);
int setenv(const char *name, const char *value, int overwrite);
]]
local file = assert(io.open(out_path .. ".new", "w"))
file:write(table.concat(left_out, "\n"), "\n", table.concat(numbers, "\n"), "\n", text, extra)
file:close()
assert(os.rename(out_path .. ".new", out_path))
