-- Actions of a ProcessingHandler.
local actions = {}
local suspended = obj.spec.suspend == true
actions["reconcile"] = {["disabled"] = false}
actions["suspend"] = {["disabled"] = suspended}
actions["resume"] = {["disabled"] = not suspended}
return actions
