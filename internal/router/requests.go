package router

import (
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/neolith/daemon-gateway/internal/delivery"
	"github.com/neolith/daemon-gateway/internal/router/lane"
)

// requests sends batches as NATS requests and brings their receipts back to
// the run that sent them. One subscription serves all: a request of its own
// for each batch, as the library makes it, would cost a goroutine for each.
// The reply's subject says whose batch it is:
//
//	<inbox prefix>.receipts.<id of this subscription>.<number of the run>.<batch id>
//
// Edges may publish there, and to nothing else under the prefix.
//
// Its methods may be called concurrently. The runs notice timeouts by
// themselves.
type requests struct {
	nc     *nats.Conn
	prefix string
	sub    *nats.Subscription

	mu   sync.RWMutex
	runs map[uint64]*run
	last uint64
}

func newRequests(nc *nats.Conn) (*requests, error) {
	q := &requests{nc: nc, prefix: delivery.ReceiptInbox(nc.NewInbox()) + ".", runs: make(map[uint64]*run)}
	sub, err := nc.Subscribe(q.prefix+"*.*", q.receive)
	if err != nil {
		return nil, err
	}
	q.sub = sub
	return q, nil
}

func (q *requests) close() {
	// It fails only when the connection has ended, which ends it too.
	_ = q.sub.Unsubscribe()
}

// add gives the run its number. Receipts reach it from now on until remove; a
// number is used once, so that none reaches another lane.
func (q *requests) add(r *run) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	r.number = q.last
	q.runs[r.number] = r
}

func (q *requests) remove(r *run) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.runs, r.number)
}

// send asks the edge behind the subject to take a batch. data may be used
// again when it has returned.
func (q *requests) send(subject string, number uint64, id lane.BatchID, data []byte) error {
	reply := q.prefix + strconv.FormatUint(number, 36) + "." + strconv.FormatUint(uint64(id), 36)
	return q.nc.PublishRequest(subject, reply, data)
}

// receive is called by the subscription's goroutine. It may wait for the run's
// loop, which never waits for it.
func (q *requests) receive(msg *nats.Msg) {
	number, id, ok := q.parse(msg.Subject)
	if !ok {
		return
	}
	q.mu.RLock()
	r := q.runs[number]
	q.mu.RUnlock()
	if r == nil {
		return
	}
	outcome := lane.Received
	if len(msg.Data) == 0 && msg.Header.Get("Status") == "503" {
		outcome = lane.NoResponders
	}
	r.tell(func(*lane.Lane) { r.receipt(id, outcome) })
}

func (q *requests) parse(subject string) (number uint64, id lane.BatchID, ok bool) {
	run, batch, ok := strings.Cut(strings.TrimPrefix(subject, q.prefix), ".")
	if !ok {
		return 0, 0, false
	}
	number, err := strconv.ParseUint(run, 36, 64)
	if err != nil {
		return 0, 0, false
	}
	n, err := strconv.ParseUint(batch, 36, 64)
	return number, lane.BatchID(n), err == nil
}
