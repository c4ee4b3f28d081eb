-- The department has done it.
obj.spec.resolution = "Done"
return obj
