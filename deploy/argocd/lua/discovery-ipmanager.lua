-- Actions of an IPManager.
local actions = {}
actions["reconcile"] = {["disabled"] = false}
return actions
