package drill

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/neolith/daemon-gateway/internal/lab"
)

// chapter is what is shown of an exercise.
type chapter struct {
	title string
	table *lab.Table
}

func (d *drill) begin(title string) {
	d.Say("%s", title)
	d.chapters = append(d.chapters, &chapter{title, lab.NewTable("time", "step", "took", "events", "lost")})
}

func (d *drill) row(step, took, events, lost string) {
	at := int(time.Since(d.Began()).Seconds())
	d.chapters[len(d.chapters)-1].table.Row(fmt.Sprintf("%d:%02d", at/60, at%60), step, took, events, lost)
	d.Say("%s", strings.Join([]string{step, took, events, lost}, " | "))
}

// step notes something that was done and took its time.
func (d *drill) step(began time.Time, format string, args ...any) {
	d.row(fmt.Sprintf(format, args...), lab.Seconds(time.Since(began)), "", "")
}

// promise notes for how many events something holds, -1 where it is not about
// events, and for which it does not hold though it must.
func (d *drill) promise(events int, failed []string, format string, args ...any) {
	if len(failed) > 0 {
		d.Find("%s: not so for %d:\n  %s", fmt.Sprintf(format, args...), len(failed), strings.Join(failed[:min(10, len(failed))], "\n  "))
	}
	d.promised(events, len(failed), format, args...)
}

// promised is promise where what has failed is found already.
func (d *drill) promised(events, failed int, format string, args ...any) {
	count, lost := "", "0"
	if events >= 0 {
		count = fmt.Sprint(events)
	}
	if failed > 0 {
		lost = fmt.Sprintf("**%d, unexpected**", failed)
	}
	d.row(fmt.Sprintf(format, args...), "", count, lost)
}

// price notes what the disaster costs.
func (d *drill) price(events, lost int, step string) {
	d.row(step, "", fmt.Sprint(events), fmt.Sprintf("%d, expected", lost))
}

func (d *drill) print(w io.Writer) error {
	for _, c := range d.chapters {
		fmt.Fprintf(w, "\n**%s**\n", strings.ToUpper(c.title[:1])+c.title[1:])
		if err := c.table.Print(w); err != nil {
			return err
		}
	}
	return nil
}
