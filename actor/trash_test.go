package actor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/whispering-woods/ww/actor/codec"
	"github.com/whispering-woods/ww/actor/namespace"
	"github.com/whispering-woods/ww/internal/datanode"
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

// byHand moves what is at paths to others, given by turns, in a way that clients cannot, as a log from a time when they
// could. The namenode starts anew.
func (h *harness) byHand(moves ...string) {
	h.t.Helper()
	for move := range slices.Chunk(moves, 2) {
		from, source := namespace.SplitPath(move[0])
		to, target := namespace.SplitPath(move[1])
		id := func(path string) uint64 {
			walk := h.s.tree.Lookup(path)
			require.True(h.t, walk.Found, path)
			return h.s.tree.Inode(walk.Slot).ID()
		}
		frame, err := codec.NewEncoder().Record(&codec.RenameRecord{Prefix: codec.Prefix{Version: codec.Version,
			Head: codec.Header{Time: h.now}}, Inode: id(move[0]), SourceParent: id(from), SourceName: source,
			TargetParent: id(to), TargetName: target})
		require.NoError(h.t, err)
		h.log = append(h.log, frame)
	}
	h.follower = h.fresh()
	if !h.slow {
		for i, record := range h.log {
			require.NoError(h.t, h.follower.Replay(uint64(i+1), record))
		}
	}
	h.restart("a", "b", "c")
	for _, node := range []string{"a", "b", "c"} {
		h.report(node)
	}
}

func TestRemovedFilesGoToTheTrash(t *testing.T) {
	h := withTrash(t)
	h.touch("/a/b")
	moved := ok[TrashedResult](h, 1, toTrashOf("ann", "/a/b"))
	require.Equal(t, h.minute(1).Path("ann", "/a/b"), moved.Path)
	require.True(t, h.exists(moved.Path))
	require.False(t, h.exists("/a/b"))
	again := h.step(Command{Client: ClientID{1}, Sequence: h.sequence[ClientID{1}], Request: toTrashOf("ann", "/a/b")})
	require.Equal(t, moved, again.Reply.Result)

	h.touch("/a/b")
	require.Equal(t, h.minute(2).Path("ann", "/a/b"), ok[TrashedResult](h, 1, toTrashOf("ann", "/a/b")).Path,
		"there is one of this minute")
	h.touch("/a/b/c")
	require.Equal(t, h.minute(3).Path("ann", "/a/b/c"), ok[TrashedResult](h, 1, toTrashOf("ann", "/a/b/c")).Path,
		"a file is where its directory would be")
	h.touch("/a/b/d")
	require.Equal(t, h.minute(3).Path("ann", "/a/b/d"), ok[TrashedResult](h, 1, toTrashOf("ann", "/a/b/d")).Path)
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
		"a user with a reserved name":   {toTrashOf(trash.ExpiredName, "/d"), fault.Invalid},
	} {
		require.Equal(t, wrong.kind, h.as(1, wrong.request).Reply.Err.Kind, name)
	}
	require.True(t, h.exists("/d/e"))
	h.touch("/z")
	h.byHand("/z", "/.trash")
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
	h.touch("/x")
	start := h.now
	for version := 1; version < trash.VersionsMax; version++ {
		ok[TrashedResult](h, 1, toTrashOf("ann", "/x"))
		h.touch("/x")
		h.now = start // all in one minute
	}
	ok[RemoveResult](h, 1, &Remove{Path: "/x"})
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

// What was removed within one minute is never mixed: each removal can be taken back alone, as it was.
func TestRemovalsOfOneMinuteStayApart(t *testing.T) {
	h := withTrash(t)
	names := func(path string) (names []string) {
		for _, entry := range read[ListResult](h, &List{Path: path, Limit: 10}).Entries {
			names = append(names, entry.Name)
		}
		return names
	}
	h.touch("/a/x")
	tree := ok[TrashedResult](h, 1, toTrashOf("ann", "/a")).Path
	h.touch("/a/y")
	h.touch("/a/z/1")
	file := ok[TrashedResult](h, 1, toTrashOf("ann", "/a/y")).Path
	below := ok[TrashedResult](h, 1, toTrashOf("ann", "/a/z")).Path
	require.Equal(t, []string{"x"}, names(tree))
	require.Equal(t, h.minute(2).Path("ann", "/a/y"), file)
	require.Equal(t, h.minute(2).Path("ann", "/a/z"), below)

	// The checkpoint knows what was moved as a whole.
	loaded := h.fresh()
	require.NoError(t, loaded.LoadCheckpoint(h.s.Checkpoint()))
	require.True(t, loaded.tree.Inode(loaded.tree.Lookup(tree).Slot).Trashed())

	// What came back is in nobody's way, and nothing goes into an older version than what is there: the newest has the
	// highest number.
	ok[RemoveResult](h, 1, &Remove{Path: "/a", Recursive: true})
	ok[RenameResult](h, 1, &Rename{Source: tree, Target: "/a"})
	require.False(t, h.s.tree.Inode(h.s.tree.Lookup("/a").Slot).Trashed())
	require.Equal(t, h.minute(2).Path("ann", "/a/x"), ok[TrashedResult](h, 1, toTrashOf("ann", "/a/x")).Path)
	require.Equal(t, h.minute(3).Path("ann", "/a"), ok[TrashedResult](h, 1, toTrashOf("ann", "/a")).Path)
	h.same()
}

// Only removals put something in the trash.
func TestNothingElseIsPutInTheTrash(t *testing.T) {
	h := withTrash(t)
	h.touch("/d/e")
	h.touch("/f")
	moved := ok[TrashedResult](h, 1, toTrashOf("ann", "/f")).Path
	for _, target := range []string{trash.Root, "/.trash/ann/new", "/.trash/new", moved + "-2"} {
		for _, request := range []Request{&Mkdir{Path: target, Parents: true}, &Create{Path: target, Parents: true},
			&Create{Path: target, VisibleOnComplete: true}, &Rename{Source: "/d/e", Target: target},
			&Rename{Source: moved, Target: target}} {
			e := h.as(1, request)
			require.NotNil(t, e.Reply.Err, "%T to %s", request, target)
			require.Equal(t, fault.Invalid, e.Reply.Err.Kind, "%T to %s: %v", request, target, e.Reply.Err)
		}
	}
	require.Equal(t, fault.Invalid, h.as(1, &Rename{Source: trash.Root, Target: "/mine"}).Reply.Err.Kind)
	ok[SetReplicationResult](h, 1, &SetReplication{Path: moved, Replication: 2})
	ok[RenameResult](h, 1, &Rename{Source: moved, Target: "/back"})
}

// dayPasses ticks, a day later, until something is done, or until nothing is done any more. Each tick must be short.
func (h *harness) dayPasses(done func() bool) {
	h.t.Helper()
	h.now += 25 * time.Hour.Milliseconds()
	for idle := 0; idle < 4 && !done(); idle++ {
		e := h.own(&Tick{})
		require.LessOrEqual(h.t, len(e.Records), 2*expiredPerTick)
		if len(e.Records) > 0 {
			idle = 0
		}
	}
}

func never() bool { return false }

// What is being deleted cannot be had any more, nor a part of it.
func TestExpiryIsWholeForWhoUndeletes(t *testing.T) {
	h := withTrash(t)
	h.slow = true
	const files = 3 * expiredPerTick
	for i := range files {
		h.touch(fmt.Sprintf("/tree/%d", i))
	}
	moved := ok[TrashedResult](h, 1, toTrashOf("ann", "/tree")).Path
	h.dayPasses(func() bool { return h.s.tree.Totals().Files < files })
	require.NotZero(t, h.s.tree.Totals().Files)
	gone := h.as(1, &Rename{Source: moved, Target: "/tree"}).Reply.Err
	require.NotNil(t, gone, "a part came back")
	require.Equal(t, fault.NotFound, gone.Kind)

	rest := trash.ExpiredPath + "/" + read[ListResult](h, &List{Path: trash.ExpiredPath, Limit: 2}).Entries[0].Name
	tree := rest + "/tree"
	file := tree + "/" + read[ListResult](h, &List{Path: tree, Limit: 1}).Entries[0].Name
	for _, request := range []Request{&Rename{Source: rest, Target: "/mine"}, &Rename{Source: tree, Target: "/mine"},
		&Rename{Source: file, Target: "/mine"}, &Rename{Source: trash.ExpiredPath, Target: "/mine"},
		&Append{Path: file}, &Truncate{Path: file}, &SetReplication{Path: file, Replication: 1}} {
		e := h.as(1, request)
		require.NotNil(t, e.Reply.Err, "%T", request)
		require.Equal(t, fault.NotFound, e.Reply.Err.Kind, "%T: %v", request, e.Reply.Err)
	}
	h.config.TrashExpiry = 0 // it is finished also when the trash is turned off
	h.restart("a", "b", "c")
	h.dayPasses(never)
	require.Zero(t, h.s.tree.Totals().Files)
	left := read[ListResult](h, &List{Path: "/.trash", Limit: 2}).Entries
	require.Len(t, left, 1)
	require.Equal(t, "ann", left[0].Name)
	h.same()
}

// Who still writes a file in the trash loses the lease before the file goes; its neighbours need not wait.
func TestOpenFileExpiresAfterItsWriterLostIt(t *testing.T) {
	h := withTrash(t)
	made := ok[CreateResult](h, 1, &Create{Path: "/d/log", Parents: true, ChunkCount: 1})
	h.touch("/d/other")
	ok[TrashedResult](h, 2, toTrashOf("ann", "/d"))
	file := made.Info.FileID
	there := func() bool { return h.s.tree.Find(file) != 0 }
	h.dayPasses(func() bool { return h.s.tree.Totals().Files <= 1 })
	require.True(t, there())
	require.True(t, h.s.leases.Of(file).Recovering())
	lost := h.as(1, &AddChunks{FileID: file, FirstIndex: 1, Count: 1}).Reply.Err
	require.Equal(t, fault.LeaseLost, lost.Kind)
	require.Equal(t, "the namenode (lease recovery)", lost.Holder)

	// Its chunk was never written: the recovery finds nothing, and the file goes.
	if !h.s.leases.Recovery(file).UnderWay() {
		h.pass(h.s.config.TickInterval, "a", "b", "c")
	}
	attempt := h.s.leases.Recovery(file).Attempt()
	primary := h.s.replicas.Nodes.Locations([]datanode.Index{attempt.Primary})[0].NodeID
	require.Nil(t, h.own(&RecoverResult{NodeID: primary, Session: h.sessions[primary],
		RecoverResult: datanode.RecoverResult{Chunk: made.Chunks[0].Chunk, Generation: attempt.Generation}}).Reply.Err)
	require.Nil(t, h.s.leases.Of(file))
	require.True(t, there())
	h.dayPasses(func() bool { return !there() })
	require.False(t, there())
	require.Equal(t, fault.LeaseLost, h.as(1, &Complete{FileID: file}).Reply.Err.Kind)

	// One that cannot be recovered goes all the same, later.
	made = ok[CreateResult](h, 1, &Create{Path: "/log", ChunkCount: 1})
	ok[TrashedResult](h, 2, toTrashOf("ann", "/log"))
	file = made.Info.FileID
	h.dayPasses(func() bool { return h.s.leases.Of(file).Recovering() })
	h.pass(h.s.config.LeaseHardLimit/2, "a")
	require.True(t, there())
	h.pass(h.s.config.LeaseHardLimit, "a")
	require.False(t, there())
	h.same()
}

// Names that are no places, and users with such names, hold up nobody's expiry.
func TestForeignNamesHoldUpNoExpiry(t *testing.T) {
	h := withTrash(t)
	h.slow = true
	for _, user := range []string{"ann", "zoe"} {
		h.touch("/x")
		ok[TrashedResult](h, 1, toTrashOf(user, "/x"))
	}
	var moves []string
	for i := range 2*trashNamesPerTick + 10 {
		for _, in := range []string{"/.trash/ann", "/.trash"} {
			from := fmt.Sprintf("/by%s%d", in[len(in)-3:], i)
			h.touch(from)
			moves = append(moves, from, fmt.Sprintf("%s/!%d", in, i))
		}
	}
	h.byHand(moves...)
	files := h.s.tree.Totals().Files
	h.now += 25 * time.Hour.Milliseconds()
	for range 2*trashNamesPerTick/trashUsersPerTick + 10 {
		h.own(&Tick{})
	}
	require.Equal(t, files-2, h.s.tree.Totals().Files)
	require.True(t, h.exists("/.trash/ann/!7"))
	require.True(t, h.exists("/.trash/!7"))
}

// A file of many chunks goes a few at a time.
func TestHugeFileExpiresBitByBit(t *testing.T) {
	h := withTrash(t)
	h.slow = true
	const size, chunks = 1 << 16, 10 * limits.ChunksPerCallMax
	made := ok[CreateResult](h, 1, &Create{Path: "/huge"})
	var commits []ChunkCommit
	for first := uint32(0); first < chunks; first += limits.ChunksPerCallMax {
		added := ok[AddChunksResult](h, 1, &AddChunks{FileID: made.Info.FileID, FirstIndex: first,
			Count: limits.ChunksPerCallMax, Commits: commits})
		commits = commits[:0]
		for _, c := range added.Chunks {
			commits = append(commits, ChunkCommit{Chunk: c.Chunk, Generation: c.Generation, Length: size,
				NodeIDs: nodeIDs(c.Replicas)})
		}
	}
	ok[CompleteResult](h, 1, &Complete{FileID: made.Info.FileID, Commits: commits})
	moved := ok[TrashedResult](h, 1, toTrashOf("ann", "/huge")).Path
	h.now += 25 * time.Hour.Milliseconds()
	left := h.s.files.Chunks()
	require.Equal(t, chunks, left)
	for ticks := 0; left > 0; ticks++ {
		h.own(&Tick{})
		now := h.s.files.Chunks()
		require.LessOrEqual(t, left-now, expiredPerTick)
		require.Less(t, ticks, 10)
		require.False(t, now < chunks && h.exists(moved), "a part of it is to be had")
		left = now
	}
	h.dayPasses(never)
	require.Zero(t, h.s.tree.Totals().Files)
	h.same()
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
	h.touch("/notes")
	h.touch("/1/2")
	h.byHand("/notes", "/.trash/ann/notes", "/1", "/.trash/ann/1")
	h.now += 2 * time.Minute.Milliseconds()
	late := ok[TrashedResult](h, 1, toTrashOf("ann", "/late")).Path
	tick := func() int {
		e := h.own(&Tick{})
		require.LessOrEqual(t, len(e.Records), 2*expiredPerTick)
		return len(e.Records)
	}
	h.now += (24*time.Hour - 2*time.Minute).Milliseconds()
	for range 10 {
		require.Zero(t, tick(), "not yet")
	}
	h.now += time.Minute.Milliseconds()
	for ticks := 0; h.exists(first); ticks++ { // it looks at all users in turn
		require.Less(t, ticks, 4)
		tick()
	}
	require.Positive(t, tick())
	require.True(t, h.exists(trash.ExpiredPath), "it is too much for one tick")

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
