-- The server's time as UTC text, ISO 8601 with ms; a test may pass ms since 1970 instead ('' means: ask the server).
-- The date is counted in eras of 400 years, whose years begin in March, so that leap days come last.
local function utc_now(given)
  local seconds, ms
  if given ~= '' then
    seconds, ms = math.floor(tonumber(given) / 1000), tonumber(given) % 1000
  else
    local t = redis.call('TIME')
    seconds, ms = tonumber(t[1]), math.floor(tonumber(t[2]) / 1000)
  end
  local days = math.floor(seconds / 86400)
  local rest = seconds - days * 86400
  local shifted = days + 719468
  local era = math.floor(shifted / 146097)
  local day_of_era = shifted - era * 146097
  local leaps = math.floor(day_of_era / 1460) - math.floor(day_of_era / 36524) + math.floor(day_of_era / 146096)
  local year_of_era = math.floor((day_of_era - leaps) / 365)
  local before = 365 * year_of_era + math.floor(year_of_era / 4) - math.floor(year_of_era / 100)
  local day_of_year = day_of_era - before
  local month = math.floor((5 * day_of_year + 2) / 153)
  local day = day_of_year - math.floor((153 * month + 2) / 5) + 1
  month = month < 10 and month + 3 or month - 9
  local year = year_of_era + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03d+00:00', year, month, day,
    math.floor(rest / 3600), math.floor(rest % 3600 / 60), rest % 60, ms)
end
