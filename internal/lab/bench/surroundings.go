package bench

import (
	"crypto/tls"

	"github.com/neolith/daemon-gateway/internal/lab/load"
	"github.com/neolith/daemon-gateway/internal/lab/testserver"
)

// surroundings are what a gateway has beside its servers.
type surroundings struct {
	tls      *tls.Config // of daemons
	database *testserver.PostgresProcess
}

// surround makes what the options ask for, and has the gateway's environment name
// it.
func (b *bench) surround(environment map[string]string) (s surroundings, err error) {
	if b.options.secure {
		certificate, key, err := testserver.WriteCertificate(b.Dir)
		if err != nil {
			return s, err
		}
		environment["TLS_CERT_FILE"], environment["TLS_KEY_FILE"] = certificate, key
		// To verify it would cost whoever makes the load, and the gateway nothing.
		s.tls = &tls.Config{InsecureSkipVerify: true}
	}
	if !b.options.database {
		return s, nil
	}
	if s.database, err = testserver.StartPostgres(); err != nil {
		return s, err
	}
	var orchestrators []testserver.Orchestrator
	for i := range max(b.options.daemons, b.options.storm, b.options.beating, b.options.rush+rushOthers) {
		id := string(load.Orchestrator(i))
		orchestrators = append(orchestrators, testserver.Orchestrator{ID: id, User: "user_" + id})
	}
	if err := s.database.CreateNeolith(orchestrators...); err != nil {
		s.remove()
		return s, err
	}
	environment["DATABASE_URL"] = s.database.URL()
	return s, nil
}

func (s surroundings) remove() {
	if s.database != nil {
		s.database.Remove()
	}
}
