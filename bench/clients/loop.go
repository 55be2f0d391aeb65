// Go's net/http client in a loop: see bench/lib/real-clients.ts.
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	origin := os.Args[1]
	seconds, _ := strconv.ParseFloat(os.Args[2], 64)
	atATime, _ := strconv.Atoi(os.Args[3])
	serviceMs, _ := strconv.Atoi(os.Args[4])
	client := &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
			ForceAttemptHTTP2: true,
		},
	}
	until := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	upload := bytes.Repeat([]byte("u"), 5000)
	var number, answered int64
	errors := map[string]int{}
	var mutex sync.Mutex
	fetch := func(n int64) error {
		service := rand.Intn(serviceMs + 1)
		expected := fmt.Sprintf("ok %d", n)
		method, kind := "GET", "small"
		var body io.Reader
		if n%4 == 0 {
			method, kind, body = "POST", "upload", bytes.NewReader(upload)
			expected = fmt.Sprintf("ok %d %d", n, len(upload))
		}
		request, _ := http.NewRequest(method, fmt.Sprintf("%s/%s/%d/%d", origin, kind, n, service), body)
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		if err == nil && string(answer) != expected {
			err = fmt.Errorf("wrong answer")
		}
		return err
	}
	var workers sync.WaitGroup
	for i := 0; i < atATime; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for time.Now().Before(until) {
				if err := fetch(atomic.AddInt64(&number, 1)); err != nil {
					mutex.Lock()
					errors[err.Error()]++
					mutex.Unlock()
				} else {
					atomic.AddInt64(&answered, 1)
				}
			}
		}()
	}
	workers.Wait()
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{"sent": number, "answered": answered, "errors": errors})
}
