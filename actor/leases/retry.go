package leases

import (
	"cmp"
	"fmt"
	"slices"
)

// RetryCache keeps the first answer of each client's latest mutations (HDFS's
// retry cache). It is part of the durable state: all changes come from records.
type RetryCache struct {
	clients map[ClientID]*retryClient
	// oldest and newest end the list of clients by the time of their last mutation.
	oldest, newest *retryClient
	results        int
}

type retryClient struct {
	id           ClientID
	older, newer *retryClient
	last         int64    // Unix ms, record time
	floor        uint64   // results of sequences below it were forgotten
	entries      []Answer // by rising sequence; all >= floor
}

// Answer is the first one that a mutation got.
type Answer struct {
	Sequence uint64
	Result   any // a pointer to a result struct, which is never changed
}

// NewRetryCache makes an empty cache.
func NewRetryCache() *RetryCache { return &RetryCache{clients: make(map[ClientID]*retryClient)} }

// Lookup finds the first answer. forgotten means that the sequence is below
// what the cache still knows, so that a retry cannot be distinguished from a new call.
func (c *RetryCache) Lookup(id ClientID, sequence uint64) (result any, found, forgotten bool) {
	client := c.clients[id]
	if client == nil {
		return nil, false, false
	}
	if i, ok := client.find(sequence); ok {
		return client.entries[i].Result, true, false
	}
	return nil, false, sequence < client.floor
}

func (c *retryClient) find(sequence uint64) (int, bool) {
	n := len(c.entries)
	if n == 0 || c.entries[n-1].Sequence < sequence {
		return n, false
	}
	return slices.BinarySearchFunc(c.entries, sequence, func(e Answer, want uint64) int {
		return cmp.Compare(e.Sequence, want)
	})
}

// Call is the header of a client's mutation, with the time of its record.
type Call struct {
	Client ClientID
	Time   int64 // Unix ms
	// Sequence numbers the client's mutations; Oldest is the lowest whose answer it may still ask for.
	Sequence, Oldest uint64
}

// Remember stores the answer of a record. A second record with the same
// sequence (there is none in a healthy log) replaces the first.
func (c *RetryCache) Remember(call Call, result any) {
	client := c.clients[call.Client]
	if client == nil {
		if len(c.clients) >= retryClientsMax {
			c.drop(c.oldest)
		}
		client = &retryClient{id: call.Client}
		c.clients[call.Client] = client
	} else {
		c.unlink(client)
	}
	client.last = call.Time
	c.link(client)
	client.raise(c, call.Oldest)
	if call.Sequence < client.floor {
		return
	}
	i, found := client.find(call.Sequence)
	if found {
		client.entries[i].Result = result
		return
	}
	client.entries = slices.Insert(client.entries, i, Answer{Sequence: call.Sequence, Result: result})
	c.results++
	if n := len(client.entries); n > retryResultsMax {
		client.raise(c, client.entries[n-retryResultsMax].Sequence)
	}
}

// raise forgets the results below floor.
func (c *retryClient) raise(cache *RetryCache, floor uint64) {
	if floor <= c.floor {
		return
	}
	c.floor = floor
	n := 0
	for n < len(c.entries) && c.entries[n].Sequence < floor {
		n++
	}
	if n > 0 {
		kept := copy(c.entries, c.entries[n:])
		clear(c.entries[kept:])
		c.entries = c.entries[:kept]
		cache.results -= n
	}
}

// ForgetIdle drops clients whose last mutation is long past at a time (Unix ms).
func (c *RetryCache) ForgetIdle(now int64) {
	for c.oldest != nil && c.oldest.last < now-retryIdleMillis {
		c.drop(c.oldest)
	}
}

func (c *RetryCache) drop(client *retryClient) {
	c.unlink(client)
	delete(c.clients, client.id)
	c.results -= len(client.entries)
}

func (c *RetryCache) link(client *retryClient) {
	client.older, client.newer = c.newest, nil
	if c.newest != nil {
		c.newest.newer = client
	} else {
		c.oldest = client
	}
	c.newest = client
}

func (c *RetryCache) unlink(client *retryClient) {
	if client.older != nil {
		client.older.newer = client.newer
	} else {
		c.oldest = client.newer
	}
	if client.newer != nil {
		client.newer.older = client.older
	} else {
		c.newest = client.older
	}
	client.older, client.newer = nil, nil
}

// RetryClient is one client of the cache, as a checkpoint holds it.
type RetryClient struct {
	ID      ClientID
	Last    int64    // time of its last mutation, Unix ms
	Floor   uint64   // answers of sequences below it were forgotten
	Answers []Answer // by rising sequence; all >= Floor
}

// Snapshot copies the cache, the client that was idle for longest first.
func (c *RetryCache) Snapshot() (clients []RetryClient) {
	for client := c.oldest; client != nil; client = client.newer {
		clients = append(clients, RetryClient{ID: client.id, Last: client.last, Floor: client.floor,
			Answers: slices.Clone(client.entries)})
	}
	return clients
}

// Load adds a client that Snapshot gave, or more answers of the one before. It
// refuses what is out of order or above a bound.
func (c *RetryCache) Load(loaded RetryClient) bool {
	client := c.newest
	if client == nil || client.id != loaded.ID {
		if loaded.ID == (ClientID{}) || c.clients[loaded.ID] != nil || len(c.clients) >= retryClientsMax ||
			client != nil && loaded.Last < client.last {
			return false
		}
		client = &retryClient{id: loaded.ID, last: loaded.Last, floor: loaded.Floor}
		c.clients[client.id] = client
		c.link(client)
	}
	for _, a := range loaded.Answers {
		n := len(client.entries)
		if n >= retryResultsMax || a.Sequence < client.floor || n > 0 && client.entries[n-1].Sequence >= a.Sequence {
			return false
		}
		client.entries = append(client.entries, a)
		c.results++
	}
	return true
}

// Check compares the counts and the order with what is there; tests call it.
func (c *RetryCache) Check() error {
	results, clients := 0, 0
	var last int64
	for client := c.oldest; client != nil; client = client.newer {
		clients++
		results += len(client.entries)
		if client.last < last || len(client.entries) > retryResultsMax || c.clients[client.id] != client {
			return fmt.Errorf("retry client %x: last %d after %d, %d results", client.id, client.last, last,
				len(client.entries))
		}
		last = client.last
		for i, e := range client.entries {
			if e.Sequence < client.floor || i > 0 && e.Sequence <= client.entries[i-1].Sequence {
				return fmt.Errorf("retry client %x: sequence %d, floor %d", client.id, e.Sequence, client.floor)
			}
		}
	}
	if clients != len(c.clients) || results != c.results {
		return fmt.Errorf("retry cache: %d clients, %d results; counted %d, %d", len(c.clients), c.results, clients,
			results)
	}
	return nil
}
