package build

import (
	"context"
	"errors"
	"fmt"

	"distro.internal/shared/cas"
)

// A TestResult is what a test that did not fail came to.
type TestResult struct {
	Ran     bool     // the steps ran; else they did before, with all as it is now
	Fetched bool     // they ran elsewhere
	Key     *cas.Key // what the outcome is a function of; known also when the test failed
}

// Test runs a test of a plan's packages, unless it passed before with all that
// it depends on as it is now. What fails is not remembered: it runs again.
func (b *Builder) Test(ctx context.Context, job Job) (*TestResult, error) {
	r, err := b.LookupTest(ctx, job)
	if !absent(err) {
		return r, err
	}
	r.Ran = true
	if err := b.runTest(ctx, job); err != nil {
		return r, err
	}
	if err := b.Store.Keep(ctx, r.Key, &cas.Result{}); err != nil {
		return r, fmt.Errorf("storing the test of %s: %w", job.name(), err)
	}
	return r, nil
}

// LookupTest finds what Test would find, and runs nothing. The error is
// fs.ErrNotExist when the test would have to run.
func (b *Builder) LookupTest(ctx context.Context, job Job) (*TestResult, error) {
	key, err := testKey(job)
	if err != nil {
		return nil, fmt.Errorf("describing the test of %s: %w", job.name(), err)
	}
	found, err := b.Store.Find(ctx, key)
	return &TestResult{Key: key, Fetched: err == nil && found.Fetched}, err
}

func (b *Builder) runTest(ctx context.Context, job Job) (err error) {
	if job.Test.Structural() {
		return b.checks(ctx, job)
	}
	r, err := b.Enter(ctx, job)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(), b.dropKept(ctx, 0, keptMost)) }()
	return r.steps(ctx)
}

// checks runs a test that only looks at the package: without a sandbox, and without unpacking what it does not look at.
func (b *Builder) checks(ctx context.Context, job Job) error {
	for i, s := range job.Test.Steps {
		if job.OnStep != nil {
			job.OnStep(i+1, len(job.Test.Steps), s)
		}
		if err := b.check(ctx, job, s.Check); err != nil {
			return &StepError{Step: s, N: i + 1, Of: len(job.Test.Steps), Err: err}
		}
	}
	return nil
}
