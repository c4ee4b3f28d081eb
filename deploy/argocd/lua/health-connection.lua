-- Health of a ProcessingHandler or an IPManager, from its conditions.
local hs = {}

local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end
local function says(type)
  return conditions[type] ~= nil and conditions[type].status == "True"
end

if obj.status == nil or obj.status.observedGeneration == nil or obj.status.observedGeneration < (obj.metadata.generation or 1) then
  hs.status = "Progressing"
  hs.message = "The operator has not seen this version yet"
elseif says("Stalled") then
  hs.status = "Degraded"
  hs.message = conditions.Stalled.message
elseif obj.metadata.deletionTimestamp ~= nil then
  hs.status = "Progressing"
  hs.message = "It goes when nothing needs it any more"
elseif obj.spec.suspend == true then
  hs.status = "Suspended"
  hs.message = "Nothing is changed at the panel"
elseif says("Ready") then
  hs.status = "Healthy"
  hs.message = conditions.Ready.message
else
  hs.status = "Progressing"
  hs.message = conditions.Ready ~= nil and conditions.Ready.message or "Not reached yet"
end
return hs
