"""Whether the program of this container answers. Exit status 0 or 1.

python healthy.py            # its figures, where it serves them (HOPWATCH_METRICS)
python healthy.py URL        # this page of its own
"""

import os
import ssl
import sys
import urllib.request

address = os.environ.get("HOPWATCH_METRICS", "127.0.0.1:9464").removeprefix("exposed:").replace("0.0.0.0", "127.0.0.1")
page = sys.argv[1] if len(sys.argv) > 1 else f"http://{address}/metrics"
# It is asked on its own loopback, where a certificate of another name proves nothing.
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
# No proxy of the environment stands between a program and its own address.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
try:
    with opener.open(page, timeout=4) as answer:
        answer.read()
except OSError as error:
    sys.exit(f"{page}: {error}")
