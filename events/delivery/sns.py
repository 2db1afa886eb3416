"""Amazon SES reports by SNS, without boto3: anymail reads them, and makes a client of it only to confirm a subscription.

anymail does not check Amazon's signature. What proves a report is the login in the address that SNS was given.
"""

import asyncio
import re
from typing import Any
from urllib.parse import urlencode

from anymail.webhooks.amazon_ses import AmazonSESBaseWebhookView, AmazonSESTrackingWebhookView

from lib import egress
from lib.errors import Unavailable

HOME = "https://sns.{region}.{domain}/"
TOPIC = re.compile(r"arn:(aws|aws-us-gov|aws-cn):sns:([a-z0-9-]{4,30}):\d{12}:[\w.-]{1,256}", re.ASCII)
DOMAINS = {"aws-cn": "amazonaws.com.cn"}


class Reports(AmazonSESTrackingWebhookView):
    """Of one call, which has proved itself when it is read."""

    def __init__(self, **kwargs: Any) -> None:
        super(AmazonSESBaseWebhookView, self).__init__(**kwargs)

    def auto_confirm_sns_subscription(self, sns_message: dict[str, Any]) -> None:
        confirm(sns_message["TopicArn"], sns_message["Token"])


def confirm(topic: str, token: str) -> None:
    """Say yes to a topic that asks whether it may report here, at Amazon's own address for it.

    Raises  ValueError for what is no topic, Unavailable when Amazon said nothing good: it asks again
    """
    found = TOPIC.fullmatch(topic)
    if found is None:
        raise ValueError(f"{topic[:80]} is no topic of SNS")
    asked = {"Action": "ConfirmSubscription", "Version": "2010-03-31", "TopicArn": topic, "Token": token}
    url = HOME.format(region=found[2], domain=DOMAINS.get(found[1], "amazonaws.com"))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    try:
        answer = asyncio.run(egress.post(url, body=urlencode(asked).encode(), headers=headers))
    except egress.Unreachable:
        raise Unavailable("SNS could not be asked. It asks again.") from None
    if answer.status != 200:
        raise Unavailable("SNS did not take the confirmation. It asks again.")
