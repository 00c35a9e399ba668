package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// federate watches a bundle endpoint: federation TRUST_DOMAIN URL https_spiffe ENDPOINT_ID BUNDLE | https_web ROOTS, then how many
// different sequences to wait for. Prints each bundle as one line.
func federate(ctx context.Context, args []string) {
	domain, err := spiffeid.TrustDomainFromString(args[0])
	check(err)
	var option federation.FetchOption
	switch args[2] {
	case "https_spiffe":
		id, err := spiffeid.FromString(args[3])
		check(err)
		trusted, err := spiffebundle.Load(domain, args[4])
		check(err)
		option = federation.WithSPIFFEAuth(x509bundle.FromX509Authorities(domain, trusted.X509Authorities()), id)
	case "https_web":
		pem, err := os.ReadFile(args[3])
		check(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		option = federation.WithWebPKIRoots(roots)
	}
	wanted := 1
	fmt.Sscan(args[len(args)-1], &wanted)
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := &bundles{wanted: wanted, cancel: cancel}
	_ = federation.WatchBundle(watched, domain, args[1], seen, option)
	if seen.err != nil {
		check(seen.err)
	}
}

type bundles struct {
	wanted int
	last   uint64
	err    error
	cancel context.CancelFunc
}

func (b *bundles) NextRefresh(time.Duration) time.Duration { return 200 * time.Millisecond }

func (b *bundles) OnUpdate(bundle *spiffebundle.Bundle) {
	sequence, _ := bundle.SequenceNumber()
	hint, _ := bundle.RefreshHint()
	if sequence == b.last {
		return
	}
	b.last = sequence
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"trust_domain": bundle.TrustDomain().String(),
		"sequence":     sequence,
		"hint_s":       hint.Seconds(),
		"x509":         len(bundle.X509Authorities()),
		"jwt":          len(bundle.JWTAuthorities()),
	}))
	if b.wanted--; b.wanted == 0 {
		b.cancel()
	}
}

func (b *bundles) OnError(err error) {
	if b.wanted > 0 {
		b.err = err
		b.cancel()
	}
}
