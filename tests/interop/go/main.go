// A workload that knows only go-spiffe.
//
// usage: workload denied | full | wits | without-wits | federation ... (see federation.go) | tls-serve, tls-call ... (see tls.go). Prints one JSON object; exits 0 when the Workload API behaved as the SPIFFE standards say.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const audience = "interop"

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 110*time.Second)
	defer cancel()
	if os.Args[1] == "federation" {
		federate(ctx, os.Args[2:])
		return
	}
	if os.Args[1] == "tls-serve" || os.Args[1] == "tls-call" {
		tlsPeer(context.Background(), os.Args[1:])
		return
	}
	client, err := workloadapi.New(ctx)
	check(err)
	defer client.Close()
	results := map[string]func(context.Context, *workloadapi.Client) map[string]any{
		"denied": denied, "full": full, "wits": wits, "without-wits": withoutWITs,
	}
	check(json.NewEncoder(os.Stdout).Encode(results[os.Args[1]](ctx, client)))
}

func denied(ctx context.Context, client *workloadapi.Client) map[string]any {
	_, err := client.FetchX509SVID(ctx)
	return map[string]any{"denied": status.Code(err) == codes.PermissionDenied, "error": fmt.Sprint(err)}
}

func full(ctx context.Context, client *workloadapi.Client) map[string]any {
	svid, err := client.FetchX509SVID(ctx)
	check(err)
	bundles, err := client.FetchX509Bundles(ctx)
	check(err)
	raw := [][]byte{}
	for _, certificate := range svid.Certificates {
		raw = append(raw, certificate.Raw)
	}
	id, _, err := x509svid.ParseAndVerify(raw, bundles)
	check(err)
	bundle, ok := bundles.Get(id.TrustDomain())
	if !ok {
		check(fmt.Errorf("no bundle for %s", id.TrustDomain()))
	}

	token, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	check(err)
	jwtBundles, err := client.FetchJWTBundles(ctx)
	check(err)
	_, err = jwtsvid.ParseAndValidate(token.Marshal(), jwtBundles, []string{audience})
	check(err)
	validated, err := client.ValidateJWTSVID(ctx, token.Marshal(), audience)
	check(err)
	_, wrong := client.ValidateJWTSVID(ctx, token.Marshal(), "another")

	chain := bytes.Buffer{}
	for _, der := range raw {
		check(pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	anchors := bytes.Buffer{}
	for _, authority := range bundle.X509Authorities() {
		check(pem.Encode(&anchors, &pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw}))
	}
	return map[string]any{
		"spiffe_id":              id.String(),
		"chain":                  chain.String(),
		"bundle":                 anchors.String(),
		"jwt_spiffe_id":          validated.ID.String(),
		"wrong_audience_refused": status.Code(wrong) == codes.InvalidArgument,
		"serials":                rotations(ctx, client),
	}
}

type watcher struct {
	serials []string
	cancel  context.CancelFunc
}

func (w *watcher) OnX509ContextUpdate(update *workloadapi.X509Context) {
	serial := update.DefaultSVID().Certificates[0].SerialNumber.Text(16)
	if len(w.serials) == 0 || w.serials[len(w.serials)-1] != serial {
		w.serials = append(w.serials, serial)
	}
	if len(w.serials) >= 4 {
		w.cancel()
	}
}

func (w *watcher) OnX509ContextWatchError(err error) {
	if status.Code(err) != codes.Canceled {
		check(fmt.Errorf("watching failed: %w", err))
	}
}

// rotations gives the serial numbers of the first SVID and of three rotations.
func rotations(ctx context.Context, client *workloadapi.Client) []string {
	watched, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	seen := &watcher{cancel: cancel}
	_ = client.WatchX509Context(watched, seen)
	return seen.serials
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
