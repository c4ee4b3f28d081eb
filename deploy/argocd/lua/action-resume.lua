-- Go on.
obj.spec.suspend = false
return obj
