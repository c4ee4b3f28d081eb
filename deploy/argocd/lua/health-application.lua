-- Health of an Application, as Argo CD itself has counted it: an app of apps waits for it between sync waves. Argo CD has no such
-- script by itself since 1.8. It stands alone: what other health scripts begin with is about conditions, which this kind has not.
local hs = {status = "Progressing", message = "Argo CD has not looked at it yet"}
if obj.status ~= nil and obj.status.health ~= nil and obj.status.health.status ~= nil then
  hs.status = obj.status.health.status
  hs.message = obj.status.health.message or ""
end
return hs
