obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["tiercel.dev/pause"] = "all"
return obj
