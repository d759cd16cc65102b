local annotations = obj.metadata.annotations or {}
local paused = annotations["tiercel.dev/pause"] ~= nil
return { pause = { disabled = paused }, resume = { disabled = not paused } }
