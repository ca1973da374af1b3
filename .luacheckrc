-- LuaJIT everywhere; busted's words in the specs only.
std = "luajit"
max_line_length = 100
exclude_files = { "build" }
-- Generated: a type of LuaCATS cannot be written in two lines.
files["lua/segue/types.lua"] = { max_line_length = false }
files["**/*_spec.lua"] = { std = "luajit+busted" }
files["spec/support"] = { std = "luajit+busted" }
files["spec/bench"] = { std = "luajit" }
