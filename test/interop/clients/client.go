// A visit by Go's net/http client: see visit.ts.
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
)

type visit struct {
	Protocols map[string]int `json:"protocols"`
	Hello     string         `json:"hello"`
	Echoed    int            `json:"echoed"`
	Answered  int            `json:"answered"`
	Trailer   *string        `json:"trailer"`
	Failures  []string       `json:"failures"`
}

func main() {
	origin, protocol := os.Args[1], os.Args[2]
	requests, _ := strconv.Atoi(os.Args[3])
	atATime, _ := strconv.Atoi(os.Args[4])
	size, _ := strconv.Atoi(os.Args[5])
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2:   protocol == "h2",
		MaxIdleConnsPerHost: atATime,
		MaxConnsPerHost:     atATime,
	}
	client := &http.Client{Transport: transport}
	result := visit{Protocols: map[string]int{}, Failures: []string{}}
	var mutex sync.Mutex
	fail := func(what string, err error) {
		mutex.Lock()
		defer mutex.Unlock()
		result.Failures = append(result.Failures, fmt.Sprintf("%s: %v", what, err))
	}
	fetch := func(req *http.Request) (string, http.Header) {
		response, err := client.Do(req)
		if err != nil {
			fail(req.URL.Path, err)
			return "", nil
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			fail(req.URL.Path, err)
		}
		mutex.Lock()
		defer mutex.Unlock()
		result.Protocols[response.Proto]++
		return string(body), response.Trailer
	}
	get := func(path string) string {
		req, _ := http.NewRequest("GET", origin+path, nil)
		body, _ := fetch(req)
		return body
	}

	result.Hello = get("/hello/first")

	upload := make([]byte, size)
	for i := range upload {
		upload[i] = byte(i * 7)
	}
	req, _ := http.NewRequest("POST", origin+"/echo", bytes.NewReader(upload))
	if echo, _ := fetch(req); echo == string(upload) {
		result.Echoed = len(echo)
	}

	// Of unknown length, as trailers need it on HTTP/1.1.
	req, _ = http.NewRequest("POST", origin+"/trailers", io.MultiReader(bytes.NewReader([]byte("abc"))))
	req.ContentLength = -1
	req.Trailer = http.Header{"X-Sum": []string{"from-go"}}
	body, trailers := fetch(req)
	if body != "3" {
		fail("/trailers", fmt.Errorf("answered %q", body))
	}
	sum := trailers.Get("X-Sum")
	result.Trailer = &sum

	numbers := make(chan int)
	var workers sync.WaitGroup
	for i := 0; i < atATime; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for n := range numbers {
				if get(fmt.Sprintf("/hello/%d", n)) == fmt.Sprintf("hello %d", n) {
					mutex.Lock()
					result.Answered++
					mutex.Unlock()
				}
			}
		}()
	}
	for n := 0; n < requests; n++ {
		numbers <- n
	}
	close(numbers)
	workers.Wait()
	json.NewEncoder(os.Stdout).Encode(result)
}
