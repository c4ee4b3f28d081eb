-- Actions of a ManualTask: how it is closed, once. Abandon, which gives a server up, is left to kubectl.
local actions = {}
local closed = obj.spec.resolution ~= nil
actions["done"] = {["disabled"] = closed}
actions["retry"] = {["disabled"] = closed}
return actions
