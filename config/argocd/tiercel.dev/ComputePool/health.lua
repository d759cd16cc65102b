-- ComputePool
local status, found = obj.status or {}, {}
if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not seen this spec yet" }
end
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end
local function is(type) return found[type] ~= nil and found[type].status == "True" end
local function say(health, type)
  return { status = health, message = found[type].reason .. ": " .. found[type].message }
end
if found.Ready == nil then return { status = "Progressing", message = "the operator has not looked at it yet" } end
if is("Stalled") then return say("Degraded", "Stalled") end
if is("Reconciling") then return say("Progressing", "Reconciling") end
return say(is("Ready") and "Healthy" or "Progressing", "Ready")
