-- Health of a ManualTask: an open one waits for its department.
if says("Ready") then
  hs.status = "Healthy"
  hs.message = conditions.Ready.message
else
  hs.status = "Suspended"
  hs.message = obj.spec.department .. ": " .. obj.spec.summary
end
return hs
