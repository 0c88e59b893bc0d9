package chunkfile

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/whispering-woods/ww/internal/chunk"
)

const (
	// Directory holds the chunk files of a volume, in one shard for each last byte of an id.
	Directory = "chunks"

	openSuffix   = ".open"
	sealedSuffix = ".chunk"
	hiddenSuffix = ".copy" // not shown yet
)

// Name is what the name of a replica's file says.
type Name struct {
	ID         chunk.ID
	Generation chunk.Generation
	Sealed     bool
	Hidden     bool
	Length     int64 // sealed
}

// String is "<id>_<generation hex>.open", or with ".copy" while it is hidden, or "<id>_<generation
// hex>_<length>.chunk".
func (n Name) String() string {
	if n.Hidden {
		return fmt.Sprintf("%s_%x%s", n.ID, uint64(n.Generation), hiddenSuffix)
	}
	if !n.Sealed {
		return fmt.Sprintf("%s_%x%s", n.ID, uint64(n.Generation), openSuffix)
	}
	return fmt.Sprintf("%s_%x_%d%s", n.ID, uint64(n.Generation), n.Length, sealedSuffix)
}

// ParseName reads a replica's file name; ok only if it is exactly what String makes of the result.
func ParseName(text string) (name Name, ok bool) {
	stem, isOpen := strings.CutSuffix(text, openSuffix)
	if !isOpen {
		stem, name.Hidden = strings.CutSuffix(text, hiddenSuffix)
	}
	if !isOpen && !name.Hidden {
		if stem, name.Sealed = strings.CutSuffix(text, sealedSuffix); !name.Sealed {
			return Name{}, false
		}
	}
	idText, rest, _ := strings.Cut(stem, "_")
	generationText, lengthText, _ := strings.Cut(rest, "_")
	id, err := chunk.ParseID(idText)
	if err != nil {
		return Name{}, false
	}
	generation, err := strconv.ParseUint(generationText, 16, 64)
	if err != nil {
		return Name{}, false
	}
	name.ID, name.Generation = id, chunk.Generation(generation)
	if name.Sealed {
		if name.Length, err = strconv.ParseInt(lengthText, 10,
			64); err != nil || name.Length < 0 || name.Length > chunk.SizeMax {
			return Name{}, false
		}
	}
	if name.Generation == 0 || name.String() != text {
		return Name{}, false
	}
	return name, true
}

// Relative is the path of the file below the volume.
func (n Name) Relative() string { return path.Join(Directory, Shard(n.ID[len(n.ID)-1]), n.String()) }

// Shard names the directory for a last id byte.
func Shard(last byte) string { return fmt.Sprintf("%02x", last) }

// ParkedName is the name of a file in trash or quarantine: when it came, a number that keeps equal names
// apart, and the replica's name.
type ParkedName struct {
	At     time.Time // milliseconds count
	Serial uint32
	Name   Name
}

// String is "<unix ms, 12 hex digits>_<serial, 8 hex digits>_<replica's name>".
func (p ParkedName) String() string {
	return fmt.Sprintf("%012x_%08x_%s", p.At.UnixMilli(), p.Serial, p.Name)
}

// ParseParkedName reads a name that String made.
func ParseParkedName(text string) (parked ParkedName, ok bool) {
	atText, rest, _ := strings.Cut(text, "_")
	serialText, nameText, _ := strings.Cut(rest, "_")
	at, err := strconv.ParseInt(atText, 16, 64)
	if err != nil {
		return ParkedName{}, false
	}
	serial, err := strconv.ParseUint(serialText, 16, 32)
	if err != nil {
		return ParkedName{}, false
	}
	if parked.Name, ok = ParseName(nameText); !ok {
		return ParkedName{}, false
	}
	parked.At, parked.Serial = time.UnixMilli(at), uint32(serial)
	return parked, parked.String() == text
}
