package attack

import (
	"fmt"
	"strings"

	"github.com/neolith/daemon-gateway/pkg/event"
)

// largeBytes is the size of the events that hostile clients are fed with: ten
// of them fill a connection's window.
const largeBytes = 100 << 10

// Meal returns a large event for each orchestrator of a Fed attack, as Neolith
// publishes them; none for the others. Each n makes events of its own.
func (a Attack) Meal(n int) ([][]byte, error) {
	if !a.Fed {
		return nil, nil
	}
	var texts [][]byte
	for i, to := range a.Orchestrators() {
		text, err := event.Event{
			ID: fmt.Sprintf("large-%s-%d-%d", a.Name, i, n), Type: "message.received", OrchestratorID: to, RequiresAck: true,
			Payload: fmt.Appendf(nil, `{"content":%q}`, strings.Repeat("large ", largeBytes/6)), Timestamp: "2026-11-22T10:00:00.000Z",
		}.MarshalJSON()
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}
