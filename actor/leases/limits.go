package leases

// Bounds of the retry cache. It has at most 65,536 · 1,024 answers; as many are
// there only if every client has 1,024 mutations within ten minutes.
const (
	retryResultsMax = 1024           // bounds the answers of one client
	retryClientsMax = 65_536         // bounds the clients
	retryIdleMillis = 10 * 60 * 1000 // when a client's answers are forgotten, by record time
)
