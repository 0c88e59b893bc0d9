package config

import (
	"cmp"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Field describes one setting.
type Field struct {
	Key     string // "datanode.trash_delay"
	Section string // "datanode"
	Env     string // "WW_DATANODE_TRASH_DELAY"
	Flag    string // "trash-delay"
	Usage   string
	Default string // as text; lists are joined by commas
	Type    string // "string", "int", "number", "size", "duration", "list"

	index []int // path of the struct field below Config
}

// Fields lists the settings of one section in the order of its struct, or of all sections if section is empty.
func Fields(section string) []Field {
	var fields []Field
	defaults := Default()
	root := reflect.TypeFor[Config]()
	for i := range root.NumField() {
		structure := root.Field(i)
		name := structure.Tag.Get("key")
		if section != "" && section != name {
			continue
		}
		for _, field := range reflect.VisibleFields(structure.Type) {
			if field.Anonymous {
				continue // its fields are among the others
			}
			key := field.Tag.Get("key")
			index := append([]int{i}, field.Index...)
			fields = append(fields, Field{
				Key: name + "." + key, Section: name,
				Env:     cmp.Or(field.Tag.Get("env"), "WW_"+strings.ToUpper(name+"_"+key)),
				Flag:    cmp.Or(field.Tag.Get("flag"), strings.ReplaceAll(key, "_", "-")),
				Usage:   field.Tag.Get("usage"),
				Default: textOf(reflect.ValueOf(defaults).FieldByIndex(index)),
				Type:    typeName(field.Type), index: index,
			})
		}
	}
	return fields
}

func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Size]():
		return "size"
	case t == reflect.TypeFor[Duration]():
		return "duration"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.Int:
		return "int"
	case t.Kind() == reflect.Float64:
		return "number"
	}
	return "string"
}

// textOf writes a setting's value as a flag or variable would give it.
func textOf(v reflect.Value) string {
	if list, ok := v.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(v.Interface())
}

// set parses a raw value (text, or what YAML made of it) into v.
func set(target reflect.Value, raw any) error {
	if target.Kind() == reflect.Slice {
		list, err := listOf(raw)
		target.Set(reflect.ValueOf(list))
		return err
	}
	var text string
	switch raw.(type) {
	case nil:
		return fmt.Errorf("has no value")
	case map[string]any, map[any]any, []any, []string:
		return fmt.Errorf("wants one value, got %v", raw)
	default:
		text = fmt.Sprint(raw)
	}
	switch target.Interface().(type) {
	case Size:
		size, err := ParseSize(text)
		target.SetInt(int64(size))
		return err
	case Duration:
		d, err := ParseDuration(text)
		target.SetInt(int64(d))
		return err
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		target.SetInt(int64(n))
	case float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		target.SetFloat(n)
	default:
		target.SetString(text)
	}
	return nil
}

func listOf(raw any) ([]string, error) {
	var list []string
	switch raw := raw.(type) {
	case nil:
	case []string:
		list = raw
	case []any:
		for _, item := range raw {
			switch item.(type) {
			case nil, map[string]any, map[any]any, []any:
				return nil, fmt.Errorf("wants a list of texts, got %v", item)
			}
			list = append(list, fmt.Sprint(item))
		}
	case map[string]any, map[any]any:
		return nil, fmt.Errorf("wants a list, got a section")
	default:
		for item := range strings.SplitSeq(fmt.Sprint(raw), ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
	}
	return list, nil
}
