package actor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/internal/fault"
	"github.com/whispering-woods/ww/internal/limits"
	"github.com/whispering-woods/ww/internal/trash"
)

// withTrash is a cluster that keeps what is removed for a day.
func withTrash(t testing.TB) *harness {
	h := newHarness(t, Config{DefaultChunkSize: 1 << 16, TrashExpiry: 24 * time.Hour})
	h.start(3)
	return h
}

// touch makes an empty file with all directories on the way, and closes it.
func (h *harness) touch(path string) {
	h.t.Helper()
	made := ok[CreateResult](h, 1, &Create{Path: path, Parents: true, Overwrite: true})
	ok[CompleteResult](h, 1, &Complete{FileID: made.Info.FileID})
}

func (h *harness) exists(path string) bool {
	h.t.Helper()
	e := h.own(&Stat{Path: path})
	if e.Reply.Err != nil {
		require.Contains(h.t, []fault.Kind{fault.NotFound, fault.NotDirectory}, e.Reply.Err.Kind)
	}
	return e.Reply.Err == nil
}

// minute is the place of the present minute.
func (h *harness) minute(version int) trash.Place {
	place := trash.At(h.now)
	place.Version = version
	return place
}

func toTrashOf(user, path string) *Remove {
	return &Remove{Path: path, Recursive: true, ToTrash: true, User: user}
}

func TestRemovedFilesGoToTheTrash(t *testing.T) {
	h := withTrash(t)
	h.touch("/a/b")
	moved := ok[TrashedResult](h, 1, toTrashOf("ann", "/a/b"))
	require.Equal(t, h.minute(1).Path("ann", "/a/b"), moved.Path)
	require.True(t, h.exists(moved.Path))
	require.False(t, h.exists("/a/b"))
	again := h.step(Command{Client: ClientID{1}, Sequence: h.sequence[ClientID{1}], Request: toTrashOf("ann", "/a/b")})
	require.IsType(t, &RenameResult{}, again.Reply.Result, "a retry is not told where it is")

	h.touch("/a/b")
	require.Equal(t, h.minute(2).Path("ann", "/a/b"), ok[TrashedResult](h, 1, toTrashOf("ann", "/a/b")).Path,
		"there is one of this minute")
	h.touch("/a/b/c")
	require.Equal(t, h.minute(3).Path("ann", "/a/b/c"), ok[TrashedResult](h, 1, toTrashOf("ann", "/a/b/c")).Path,
		"files are where its directory would be")
	require.Equal(t, h.minute(4).Path("ann", "/a/b"), ok[TrashedResult](h, 1, toTrashOf("ann", "/a/b")).Path)
	require.Equal(t, h.minute(1).Path("bob", "/a"), ok[TrashedResult](h, 2, toTrashOf("bob", "/a")).Path)

	// In the trash, or without the wish, it is gone for good.
	ok[RemoveResult](h, 1, toTrashOf("ann", moved.Path))
	require.False(t, h.exists(moved.Path))
	h.touch("/x")
	ok[RemoveResult](h, 1, &Remove{Path: "/x"})
	ok[RemoveResult](h, 1, toTrashOf("ann", trash.Root))
	require.False(t, h.exists(trash.Root))

	h.touch("/d/e")
	for name, wrong := range map[string]struct {
		request *Remove
		kind    fault.Kind
	}{
		"a directory that is not empty": {&Remove{Path: "/d", ToTrash: true, User: "ann"}, fault.NotEmpty},
		"nothing there":                 {toTrashOf("ann", "/no"), fault.NotFound},
		"the root":                      {toTrashOf("ann", "/"), fault.Invalid},
		"no user":                       {toTrashOf("", "/d"), fault.Invalid},
		"a user that is a path":         {toTrashOf("../d", "/d"), fault.Invalid},
	} {
		require.Equal(t, wrong.kind, h.as(1, wrong.request).Reply.Err.Kind, name)
	}
	require.True(t, h.exists("/d/e"))
	h.touch("/.trash")
	e := h.as(1, toTrashOf("ann", "/d"))
	require.Equal(t, fault.NotDirectory, e.Reply.Err.Kind)
	require.Contains(t, e.Reply.Err.Hint, "--skip-trash")
	require.True(t, h.exists("/d/e"))
}

func TestWithoutAnExpiryThereIsNoTrash(t *testing.T) {
	h := newHarness(t, Config{})
	h.start(3)
	h.touch("/x")
	ok[RemoveResult](h, 1, toTrashOf("ann", "/x"))
	require.False(t, h.exists(trash.Root))
}

func TestTrashHasBounds(t *testing.T) {
	h := withTrash(t)
	h.slow = true
	for version := 1; version < trash.VersionsMax; version++ {
		ok[MkdirResult](h, 1, &Mkdir{Path: h.minute(version).Path("ann", "/x"), Parents: true})
	}
	h.touch("/x")
	require.Equal(t, h.minute(trash.VersionsMax).Path("ann", "/x"),
		ok[TrashedResult](h, 1, toTrashOf("ann", "/x")).Path)
	h.touch("/x")
	require.Equal(t, fault.Busy, h.as(1, toTrashOf("ann", "/x")).Reply.Err.Kind)
	h.now += time.Minute.Milliseconds()
	ok[TrashedResult](h, 1, toTrashOf("ann", "/x"))

	deep := strings.Repeat("/d", limits.PathElementsMax)
	ok[MkdirResult](h, 1, &Mkdir{Path: deep, Parents: true})
	e := h.as(1, toTrashOf("ann", deep))
	require.Equal(t, fault.Invalid, e.Reply.Err.Kind)
	require.Contains(t, e.Reply.Err.Hint, "--skip-trash")
	require.True(t, h.exists(deep))
}

// A file that is removed while it is written is written on, in the trash.
func TestOpenFileGoesToTheTrash(t *testing.T) {
	h := withTrash(t)
	made := ok[CreateResult](h, 1, &Create{Path: "/log"})
	moved := ok[TrashedResult](h, 2, toTrashOf("ann", "/log"))
	ok[CompleteResult](h, 1, &Complete{FileID: made.Info.FileID})
	require.Equal(t, made.Info.FileID, read[StatResult](h, &Stat{Path: moved.Path}).Info.FileID)
}

// The namenode may be killed between the two records of a removal: then nothing was moved, and the client asks again.
func TestNamenodeDiesWhileAFileGoesToTheTrash(t *testing.T) {
	h := withTrash(t)
	h.touch("/a/b")
	command := Command{Client: ClientID{1}, Sequence: h.sequence[ClientID{1}] + 1, Request: toTrashOf("ann", "/a/b")}
	require.Len(t, h.step(command).Records, 2)
	h.log = h.log[:len(h.log)-1]
	h.follower = h.fresh()
	for i, record := range h.log {
		require.NoError(t, h.follower.Replay(uint64(i+1), record))
	}
	h.restart("a", "b", "c")
	require.True(t, h.exists("/a/b"))
	h.step(command)
	require.False(t, h.exists("/a/b"))
	require.True(t, h.exists(h.minute(1).Path("ann", "/a/b")))
}

// What was removed is deleted when its time is over, and nothing else; a little at a time.
func TestTrashExpires(t *testing.T) {
	h := withTrash(t)
	h.slow = true
	const files = 3*expiredPerTick + 10
	for i := range files {
		h.touch(fmt.Sprintf("/many/%d/%d", i%7, i))
	}
	deep := strings.Repeat("/d", 2*expiredPerTick)
	h.touch(deep + "/f")
	h.touch("/late")
	first := ok[TrashedResult](h, 1, toTrashOf("ann", "/many")).Path
	ok[TrashedResult](h, 1, toTrashOf("ann", "/d"))
	for i := range 2 * trashUsersPerTick { // none starves
		h.touch("/x")
		ok[TrashedResult](h, 1, toTrashOf(fmt.Sprintf("u%03d", i), "/x"))
	}
	h.touch("/.trash/ann/notes")
	h.touch("/.trash/ann/1/2")
	h.now += 2 * time.Minute.Milliseconds()
	late := ok[TrashedResult](h, 1, toTrashOf("ann", "/late")).Path
	tick := func() int {
		e := h.own(&Tick{})
		require.LessOrEqual(t, len(e.Records), expiredPerTick)
		return len(e.Records)
	}
	h.now += (24*time.Hour - 2*time.Minute).Milliseconds()
	for range 10 {
		require.Zero(t, tick(), "not yet")
	}
	h.now += time.Minute.Milliseconds()
	require.Positive(t, tick())
	require.True(t, h.exists(first), "it is too much for one tick")

	// A namenode that takes over goes on.
	h.restart("a", "b", "c")
	for idle, ticks := 0, 0; idle < 4; ticks++ {
		if idle++; tick() > 0 {
			idle = 0
		}
		require.Less(t, ticks, 100)
	}
	require.NoError(t, h.s.check())
	require.False(t, h.exists(first))
	require.True(t, h.exists(late))
	require.True(t, h.exists("/.trash/ann/notes"))
	require.True(t, h.exists("/.trash/ann/1/2"))
	require.Len(t, read[ListResult](h, &List{Path: "/.trash/ann", Limit: 10}).Entries, 3)
	require.Empty(t, read[ListResult](h, &List{Path: fmt.Sprintf("/.trash/u%03d", 2*trashUsersPerTick-1),
		Limit: 10}).Entries)
	h.now += 3 * time.Minute.Milliseconds()
	for range 4 { // it looks at all users in turn
		tick()
	}
	require.False(t, h.exists(late))
	h.same()
}
