-- Actions of a DedicatedServerOrder. Trying again makes sense while it is not finished.
local actions = {}
local ready = false
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    if condition.type == "Ready" and condition.status == "True" then
      ready = true
    end
  end
end
actions["reconcile"] = {["disabled"] = ready}
return actions
