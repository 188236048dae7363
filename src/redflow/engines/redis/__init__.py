"""The Redis engine: Lua scripts are the engine, Python is ergonomics."""
