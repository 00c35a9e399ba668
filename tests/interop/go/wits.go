package main

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/exp/bundle/witbundle"
	"github.com/spiffe/go-spiffe/v2/exp/svid/witsvid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// withoutWITs watches where WIT-SVIDs are off: how often the stream was tried, and what ended the watch.
func withoutWITs(ctx context.Context, client *workloadapi.Client) map[string]any {
	seen := &witWatcher{}
	svids := client.WatchWITSVIDs(ctx, seen, "")
	bundles := client.WatchWITBundles(ctx, seen)
	unimplemented := status.Code(svids) == codes.Unimplemented && status.Code(bundles) == codes.Unimplemented
	return map[string]any{"unimplemented": unimplemented, "tries": seen.errors}
}

// wits fetches WIT-SVIDs, verifies them with the bundles, and watches three rotations of token and key.
func wits(ctx context.Context, client *workloadapi.Client) map[string]any {
	bundles, err := client.FetchWITBundles(ctx)
	check(err)
	svids, err := client.FetchWITSVIDs(ctx, "")
	check(err)
	svid := verified(svids[0], bundles)
	named, err := client.FetchWITSVID(ctx, svid.ID.String())
	check(err)
	foreign, err := client.FetchWITSVID(ctx, svid.ID.String()+"/other")
	if err == nil {
		check(fmt.Errorf("was given %s", foreign.ID))
	}

	token, jwtErr := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	check(jwtErr)
	jwtBundles, jwtErr := client.FetchJWTBundles(ctx)
	check(jwtErr)
	_, asWIT := witsvid.ParseAndValidate(token.Marshal(), bundles)
	_, asJWT := jwtsvid.ParseAndValidate(svid.Marshal(), jwtBundles, []string{audience})
	_, atAgent := client.ValidateJWTSVID(ctx, svid.Marshal(), audience)

	watched, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	seen := &witWatcher{bundles: bundles, cancel: cancel}
	_ = client.WatchWITSVIDs(watched, seen, "")
	return map[string]any{
		"spiffe_id":     svid.ID.String(),
		"named":         named.ID.String(),
		"foreign":       status.Code(err) == codes.PermissionDenied,
		"jwt_as_wit":    asWIT != nil,
		"wit_as_jwt":    asJWT != nil,
		"wit_validated": status.Code(atAgent) == codes.InvalidArgument,
		"tokens":        seen.tokens,
	}
}

// verified checks a token as any verifier does, and that the private key is the one that it is bound to.
func verified(svid *witsvid.SVID, bundles *witbundle.Set) *witsvid.SVID {
	parsed, err := witsvid.ParseAndValidate(svid.Marshal(), bundles)
	check(err)
	private, ok := svid.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(parsed.PublicKey) {
		check(fmt.Errorf("the key is a %T, and not that of cnf", svid.PrivateKey))
	}
	return parsed
}

type witWatcher struct {
	bundles *witbundle.Set
	tokens  []string
	errors  int
	cancel  context.CancelFunc
}

func (w *witWatcher) OnWITSVIDsUpdate(svids []*witsvid.SVID) {
	token := verified(svids[0], w.bundles).Marshal()
	if len(w.tokens) == 0 || w.tokens[len(w.tokens)-1] != token {
		w.tokens = append(w.tokens, token)
	}
	if len(w.tokens) >= 4 {
		w.cancel()
	}
}

func (w *witWatcher) OnWITSVIDsWatchError(error) {
	w.errors++
}

func (w *witWatcher) OnWITBundlesUpdate(*witbundle.Set) {}

func (w *witWatcher) OnWITBundlesWatchError(error) {
	w.errors++
}
