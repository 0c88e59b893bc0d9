package config

import (
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/whispering-woods/ww/internal/fault"
)

// Encode gives the text of a file that Load reads. Settings are named by their keys ("namenode.listen"); a value is
// of the field's type, or text as a flag takes it. It refuses what Load would refuse with fault.Invalid.
func Encode(settings map[string]any) ([]byte, error) {
	fields := map[string]Field{}
	for _, f := range Fields("") {
		fields[f.Key] = f
	}
	sections := map[string]map[string]any{}
	for key, value := range settings {
		field, known := fields[key]
		if !known {
			return nil, fault.New(fault.Invalid, "config", "unknown key %q%s", key, nearest(key, keysOf(Fields(""))))
		}
		target := reflect.New(reflect.TypeFor[Config]().FieldByIndex(field.index).Type).Elem()
		if err := set(target, value); err != nil {
			return nil, fault.New(fault.Invalid, "config", "%s: %v", key, err)
		}
		if sections[field.Section] == nil {
			sections[field.Section] = map[string]any{}
		}
		list, isList := target.Interface().([]string)
		if name := strings.TrimPrefix(key, field.Section+"."); isList {
			sections[field.Section][name] = list
		} else {
			sections[field.Section][name] = textOf(target)
		}
	}
	text, err := yaml.Marshal(sections)
	if err != nil {
		return nil, fault.New(fault.Internal, "config", "%v", err)
	}
	return text, nil
}
