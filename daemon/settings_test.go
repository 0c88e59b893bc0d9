package daemon

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/daemon/config"
)

// built is all that starts of processes are given because of a configuration.
type built struct {
	logText, logTerminal logOptions
	logServer            logServerOptions
	namenode             namenodeOptions
	datanode             datanodeOptions
	mini                 miniOptions
	client               any
}

// build makes the options of every process; an error if a section is refused.
func build(c config.Config) (b built, err error) {
	var errs [7]error
	b.logText, errs[0] = newLogOptions(c.Log, false)
	b.logTerminal, errs[1] = newLogOptions(c.Log, true)
	b.logServer, errs[2] = newLogServerOptions(c.Logserver)
	b.namenode, errs[3] = newNamenodeOptions(c.Namenode)
	b.datanode, errs[4] = newDatanodeOptions(c.Datanode)
	if errs[5] = c.Mini.Validate(); errs[5] == nil {
		b.mini, errs[5] = newMiniOptions(c.Mini)
	}
	b.client, errs[6] = ClientOptions(c.Client)
	for _, e := range errs {
		if e != nil {
			return b, e
		}
	}
	return b, nil
}

// TestEverySettingHasAnEffect changes one setting after the other, to values that
// are valid: with each change some process gets other options. A setting that
// changes nothing is a promise that nobody keeps.
func TestEverySettingHasAnEffect(t *testing.T) {
	base := func() config.Config {
		c := config.Default()
		c.Logserver.Dir, c.Datanode.Disks, c.Mini.Dir = "/log", []string{"/disk"}, "/mini"
		return c
	}
	before, err := build(base())
	require.NoError(t, err)
	same, err := build(base())
	require.NoError(t, err)
	require.Equal(t, before, same, "the same configuration gives the same options")

	sections := reflect.TypeFor[config.Config]()
	walked := 0
	for i := range sections.NumField() {
		for _, setting := range reflect.VisibleFields(sections.Field(i).Type) {
			if setting.Anonymous {
				continue // its fields are among the others
			}
			walked++
			key := config.Fields("")[walked-1].Key
			t.Run(key, func(t *testing.T) {
				valid := 0
				for _, change := range changes(setting.Type) {
					c := base()
					field := reflect.ValueOf(&c).Elem().Field(i).FieldByIndex(setting.Index)
					old := reflect.ValueOf(field.Interface())
					change(field)
					after, err := build(c)
					if err != nil || reflect.DeepEqual(old.Interface(), field.Interface()) {
						continue
					}
					valid++
					require.NotEqual(t, before, after,
						"%v instead of %v changes no option of any process", field, old)
				}
				require.Positive(t, valid, "no change of it is valid: add one to changes")
			})
		}
	}
	require.Len(t, config.Fields(""), walked)
}

// changes are ways to change a setting of a type; each is valid for some.
func changes(kind reflect.Type) (all []func(reflect.Value)) {
	switch kind.Kind() {
	case reflect.String:
		for _, text := range []string{"debug", "text", "json", "127.0.0.1:7799", "some", "weighted", "random"} {
			all = append(all, func(v reflect.Value) { v.SetString(text) })
		}
	case reflect.Slice:
		for _, text := range []string{"127.0.0.1:7799", "log1=127.0.0.1:7711/127.0.0.1:7710", "/other"} {
			all = append(all, func(v reflect.Value) { v.Set(reflect.ValueOf([]string{text})) })
		}
	case reflect.Float64:
		all = append(all, func(v reflect.Value) { v.SetFloat(v.Float() / 2) })
	default: // int, config.Size, config.Duration
		for _, step := range []func(int64) int64{
			func(n int64) int64 { return n + 1 },
			func(n int64) int64 { return 2 * n },
			func(n int64) int64 { return n / 2 },
			func(n int64) int64 { return n + 1<<20 },
			func(n int64) int64 { return n + 1<<30 },
			func(n int64) int64 { return n + int64(time.Hour) },
		} {
			all = append(all, func(v reflect.Value) { v.SetInt(step(v.Int())) })
		}
	}
	return all
}
