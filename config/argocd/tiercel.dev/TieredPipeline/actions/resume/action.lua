if obj.metadata.annotations ~= nil then
  obj.metadata.annotations["tiercel.dev/pause"] = nil
end
return obj
