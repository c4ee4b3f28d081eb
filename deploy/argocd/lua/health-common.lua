-- What the health scripts of all kinds begin with: it stands before each of them in argocd-cm.yaml.
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
  return hs
end
if says("Stalled") then
  hs.status = "Degraded"
  hs.message = conditions.Stalled.message
  return hs
end
