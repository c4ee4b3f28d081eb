-- Health of a ProcessingHandler or an IPManager, from its conditions.
if obj.metadata.deletionTimestamp ~= nil then
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
