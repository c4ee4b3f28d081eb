-- Health of a DedicatedServerOrder, from its conditions.
if says("ManualActionRequired") then
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
