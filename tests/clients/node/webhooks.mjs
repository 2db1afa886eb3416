// Verifies deliveries with the official Standard Webhooks library. Reads {secrets: {name: secret}, deliveries: {name: {body,
// headers}}} and prints, for each delivery and secret, what it said of it: the event's id, or the error's name.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const { secrets, deliveries } = JSON.parse(readFileSync(0, "utf8"));

function verified(secret, { body, headers }) {
  try {
    return new Webhook(secret).verify(body, headers).id;
  } catch (error) {
    return error.constructor.name;
  }
}

const by = (delivery) => Object.fromEntries(Object.entries(secrets).map(([name, secret]) => [name, verified(secret, delivery)]));
console.log(JSON.stringify(Object.fromEntries(Object.entries(deliveries).map(([name, delivery]) => [name, by(delivery)]))));
