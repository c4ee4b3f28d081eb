-- Send no change to the panel.
obj.spec.suspend = true
return obj
