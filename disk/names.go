package disk

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/whispering-woods/ww/internal/chunk"
)

// Names inside a volume.
const (
	chunksDirectory     = "chunks"
	trashDirectory      = "trash"
	quarantineDirectory = "quarantine"
	packsDirectory      = "packs"
	identityName        = "identity"
	lockName            = "lock"

	openSuffix      = ".open"
	sealedSuffix    = ".chunk"
	hiddenSuffix    = ".copy" // not shown yet, see CreateOptions.Hidden
	packSuffix      = ".pack"
	forgottenSuffix = ".forgotten" // in quarantine: kept for people, no longer reported
)

// fileName is what the name of a replica's file says.
type fileName struct {
	id         chunk.ID
	generation chunk.Generation
	sealed     bool
	hidden     bool
	length     int64 // sealed
}

// String is "<id>_<generation hex>.open", or with ".copy" while it is hidden,
// or "<id>_<generation hex>_<length>.chunk".
func (n fileName) String() string {
	if n.hidden {
		return fmt.Sprintf("%s_%x%s", n.id, uint64(n.generation), hiddenSuffix)
	}
	if !n.sealed {
		return fmt.Sprintf("%s_%x%s", n.id, uint64(n.generation), openSuffix)
	}
	return fmt.Sprintf("%s_%x_%d%s", n.id, uint64(n.generation), n.length, sealedSuffix)
}

// parseFileName reads a replica's file name; ok only if it is exactly what
// String makes of the result.
func parseFileName(text string) (n fileName, ok bool) {
	stem, isOpen := strings.CutSuffix(text, openSuffix)
	if !isOpen {
		stem, n.hidden = strings.CutSuffix(text, hiddenSuffix)
	}
	if !isOpen && !n.hidden {
		if stem, n.sealed = strings.CutSuffix(text, sealedSuffix); !n.sealed {
			return fileName{}, false
		}
	}
	idText, rest, _ := strings.Cut(stem, "_")
	generationText, lengthText, _ := strings.Cut(rest, "_")
	id, err := chunk.ParseID(idText)
	if err != nil {
		return fileName{}, false
	}
	generation, err := strconv.ParseUint(generationText, 16, 64)
	if err != nil {
		return fileName{}, false
	}
	n.id, n.generation = id, chunk.Generation(generation)
	if n.sealed {
		if n.length, err = strconv.ParseInt(lengthText, 10, 64); err != nil || n.length < 0 || n.length > chunk.SizeMax {
			return fileName{}, false
		}
	}
	if n.generation == 0 || n.String() != text {
		return fileName{}, false
	}
	return n, true
}

// relative is the path of the file below the volume.
func (n fileName) relative() string {
	return path.Join(chunksDirectory, shard(n.id[len(n.id)-1]), n.String())
}

// shard names the directory for a last id byte.
func shard(last byte) string { return fmt.Sprintf("%02x", last) }

// parkedName is the name of a file in trash or quarantine: when it came, a
// number that keeps equal names apart, and the replica's name.
type parkedName struct {
	at     time.Time // milliseconds count
	serial uint32
	name   fileName
}

// String is "<unix ms, 12 hex digits>_<serial, 8 hex digits>_<replica's name>".
func (p parkedName) String() string {
	return fmt.Sprintf("%012x_%08x_%s", p.at.UnixMilli(), p.serial, p.name)
}

// parseParkedName reads a name that String made.
func parseParkedName(text string) (p parkedName, ok bool) {
	atText, rest, _ := strings.Cut(text, "_")
	serialText, nameText, _ := strings.Cut(rest, "_")
	at, err := strconv.ParseInt(atText, 16, 64)
	if err != nil {
		return parkedName{}, false
	}
	serial, err := strconv.ParseUint(serialText, 16, 32)
	if err != nil {
		return parkedName{}, false
	}
	if p.name, ok = parseFileName(nameText); !ok {
		return parkedName{}, false
	}
	p.at, p.serial = time.UnixMilli(at), uint32(serial)
	return p, p.String() == text
}
