-- Writes the stream entry of a change. It is the first write of its verb: where the server is full, or the stream's
-- key holds something else, the whole verb is refused.
local function log_change(stream, maxlen, event, uuid, ver, at, fields, status)
  redis.call('XADD', stream, 'MAXLEN', '~', maxlen, '*', 'event', event, 'uuid', uuid, 'ver', ver, 'at', at,
    'fields', fields, 'status', status)
end
