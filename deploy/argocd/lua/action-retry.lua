-- The operator may try the step again.
obj.spec.resolution = "Retry"
return obj
