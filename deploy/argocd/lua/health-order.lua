-- Health of a DedicatedServerOrder, from its conditions.
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

-- What was said of an earlier generation says nothing of this one.
if obj.status == nil or obj.status.observedGeneration == nil or obj.status.observedGeneration < (obj.metadata.generation or 1) then
  hs.status = "Progressing"
  hs.message = "The operator has not seen this version yet"
elseif says("Stalled") then
  hs.status = "Degraded"
  hs.message = conditions.Stalled.message
elseif says("ManualActionRequired") then
  -- Only a person brings it on; days may pass.
  hs.status = "Suspended"
  hs.message = conditions.ManualActionRequired.message
elseif obj.metadata.deletionTimestamp ~= nil then
  hs.status = "Progressing"
  hs.message = "The server is being taken back"
elseif says("Suspended") then
  hs.status = "Suspended"
  hs.message = conditions.Suspended.message
elseif says("Ready") then
  hs.status = "Healthy"
  hs.message = conditions.Ready.message
else
  hs.status = "Progressing"
  hs.message = conditions.Ready ~= nil and conditions.Ready.message or "Being prepared"
  if obj.status.progress ~= nil and obj.status.progress.percent ~= nil then
    hs.message = obj.status.progress.percent .. "%: " .. hs.message
  end
end
return hs
