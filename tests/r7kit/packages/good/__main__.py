raise RuntimeError("__main__ modules are not imported")
