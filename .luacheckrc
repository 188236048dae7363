-- What a script may use: the parts of Lua 5.1 that Redis 6.2 and Valkey both offer, and their libraries.
-- Left out on purpose: os (server TIME is the only clock), math.random (no chance in scripts), loadstring, setfenv.
stds.redis = {
   read_globals = {
      "assert", "error", "ipairs", "next", "pairs", "pcall", "select", "tonumber", "tostring", "type", "unpack",
      string = {fields = {
         "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse", "sub", "upper",
      }},
      table = {fields = {"concat", "insert", "maxn", "remove", "sort"}},
      math = {fields = {"abs", "ceil", "floor", "fmod", "huge", "log", "max", "min", "modf", "pow", "sqrt"}},
      redis = {fields = {
         "call", "pcall", "error_reply", "status_reply", "sha1hex", "log", "setresp",
         "LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING",
      }},
      cjson = {fields = {"decode", "encode", "null"}},
      cmsgpack = {fields = {"pack", "unpack"}},
      struct = {fields = {"pack", "unpack", "size"}},
      bit = {fields = {
         "arshift", "band", "bnot", "bor", "bswap", "bxor", "lshift", "rol", "ror", "rshift", "tobit", "tohex",
      }},
      KEYS = {other_fields = true},
      ARGV = {other_fields = true},
   },
}
std = "redis"
max_line_length = 120
max_comment_line_length = 150 -- a field of a contract header is one line
