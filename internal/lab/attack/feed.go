package attack

import (
	"fmt"
	"strings"

	"github.com/neolith/daemon-gateway/internal/lab/traffic"
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
		text, err := traffic.Message(to, fmt.Sprintf("large-%s-%d-%d", a.Name, i, n),
			fmt.Appendf(nil, `{"content":%q}`, strings.Repeat("large ", largeBytes/6))).MarshalJSON()
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}
