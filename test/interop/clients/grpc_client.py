"""gRPC's C core, by its Python binding: `<port> <file of the certificate> <calls> <at a time> <longest>`; see grpc/client.ts."""
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import grpc

port, file, calls, at_a_time, longest = sys.argv[1], sys.argv[2], *(int(argument) for argument in sys.argv[3:6])
with open(file, "rb") as certificate:
    credentials = grpc.ssl_channel_credentials(certificate.read())
# Without a policy, only what has not been sent is tried again: see grpc/client.ts.
channel = grpc.secure_channel(f"localhost:{port}", credentials)
encode, decode = str.encode, bytes.decode
unary = channel.unary_unary("/test.Echo/Unary", encode, decode)
count = channel.unary_stream("/test.Echo/Count", encode, decode)
chat = channel.stream_stream("/test.Echo/Chat", encode, decode)


def call(i: int) -> str:
    """What went wrong, or nothing."""
    message = f"{i} {i % (longest + 1)}"
    try:
        if i % 3 == 0:
            answers, expected = [unary(message, timeout=30)], [message]
        elif i % 3 == 1:
            answers, expected = list(count(message, timeout=30)), [str(n + 1) for n in range(i % (longest + 1))]
        else:
            said: Queue = Queue()
            said.put(message)
            answers, expected = [], [message] * longest
            for answer in chat(iter(said.get, None), timeout=30):
                answers.append(answer)
                said.put(message if len(answers) < longest else None)
    except grpc.RpcError as error:
        return f"call {message}: {error.code()} {error.details()}"
    return "" if answers == expected else f"call {message}: answered with {answers}"


with ThreadPoolExecutor(at_a_time) as pool:
    failures = [failure for failure in pool.map(call, range(calls)) if failure]
print(json.dumps({"succeeded": calls - len(failures), "failures": failures}))
