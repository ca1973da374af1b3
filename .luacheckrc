-- LuaJIT everywhere; busted's words in the specs only.
std = "luajit"
max_line_length = 100
exclude_files = { "build" }
files["**/*_spec.lua"] = { std = "luajit+busted" }
files["spec/support"] = { std = "luajit+busted" }
files["spec/bench"] = { std = "luajit" }
