// Package trash names the places of removed files: the namenode moves them there and deletes them when their time is
// over, and clients find them there.
//
//	/.trash/<user>/<minute>[-<version>]/<the path that the file had>
//	/.trash/.expired/<number>: what is being deleted
//
// It owns nothing, and no goroutine runs here.
package trash

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Root is the directory of all that was removed and is kept.
const Root = "/.trash"

// ExpiredName is the directory in Root of what is over, until it is deleted; no user has that name. ExpiredPath is its
// path.
const (
	ExpiredName = ".expired"
	ExpiredPath = Root + "/" + ExpiredName
)

// VersionsMax bounds the directories of one user and minute: a path may be removed so often in a minute.
const VersionsMax = 999

// Within tells whether a path is in the trash, or the trash itself: what is removed there is gone.
func Within(path string) bool { return path == Root || strings.HasPrefix(path, Root+"/") }

// Expired tells whether what is at a path is being deleted because its time is over.
func Expired(path string) bool {
	return path == ExpiredPath || strings.HasPrefix(path, ExpiredPath+"/")
}

// Place is a directory of a user's trash, for what was removed in one minute. Its name orders places by time.
type Place struct {
	Minute  time.Time // UTC, without seconds
	Version int       // from 1; what was removed at the same path, or together with its directory, is in those before
}

// At is the place with the lowest version for a time (Unix ms).
func At(unixMillis int64) Place {
	return Place{Minute: time.UnixMilli(unixMillis).UTC().Truncate(time.Minute), Version: 1}
}

const minuteLayout = "20060102T1504Z"

// String is the directory's name: "20261201T0914Z", "20261201T0914Z-002".
func (p Place) String() string {
	name := p.Minute.UTC().Format(minuteLayout)
	if p.Version > 1 {
		name += fmt.Sprintf("-%03d", p.Version)
	}
	return name
}

// ParsePlace reads a name that String made.
func ParsePlace(name string) (place Place, ok bool) {
	minute, version, numbered := strings.Cut(name, "-")
	place.Version = 1
	var err error
	if place.Minute, err = time.Parse(minuteLayout, minute); err != nil {
		return Place{}, false
	}
	if numbered {
		if place.Version, err = strconv.Atoi(version); err != nil {
			return Place{}, false
		}
	}
	return place, place.Version <= VersionsMax && place.String() == name
}

// Of is the path of a user's trash.
func Of(user string) string { return Root + "/" + user }

// Path is where something of a user goes that was at a path.
func (p Place) Path(user, path string) string { return Of(user) + "/" + p.String() + path }
