import argparse

from tests.upstream.server import serve

parser = argparse.ArgumentParser(description="A vendor that speaks OpenAI's and Anthropic's protocols, for tests.")
parser.add_argument("--port", type=int, default=0, help="0 chooses a free one; it is printed as JSON")
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--stay", action="store_true", help="go on when stdin closes")
options = parser.parse_args()
serve(options.host, options.port, stay=options.stay)
