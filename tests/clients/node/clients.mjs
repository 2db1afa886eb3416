// Asks a site with both official Node clients and prints what they said, as one JSON object.
//   node clients.mjs BASE_URL KEY SPENT_KEY
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const [url, apiKey, spentKey] = process.argv.slice(2);
const ask = [{ role: "user", content: "How is the weather in Paris?" }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const options = { maxRetries: 0 };

async function refusedAs(asking) {
  try {
    await asking;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code ?? error.error?.error?.type };
  }
  return "not refused";
}

async function openai() {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, ...options });
  const chat = (fields, who = client) => who.chat.completions.create({ messages: ask, ...fields });
  const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
  const whole = await chat({ model: "words" });
  let streamed = "";
  for await (const chunk of await chat({ model: "words", stream: true })) {
    streamed += chunk.choices[0]?.delta?.content ?? "";
  }
  const called = (await chat({ model: "caller", tools })).choices[0];
  const call = called.message.tool_calls[0];
  const result = { role: "tool", tool_call_id: call.id, content: "12 °C" };
  const told = await chat({ model: "caller", tools, messages: [...ask, called.message, result] });
  return {
    whole: whole.choices[0].message.content,
    usage: whole.usage.completion_tokens,
    streamed,
    called: [called.finish_reason, call.function.name, JSON.parse(call.function.arguments)],
    told: told.choices[0].message.content,
    models: (await client.models.list()).data.map((model) => model.id),
    badKey: await refusedAs(chat({ model: "words" }, client.withOptions({ apiKey: "sk-nonsense" }))),
    spent: await refusedAs(chat({ model: "words" }, client.withOptions({ apiKey: spentKey }))),
    unknownModel: await refusedAs(chat({ model: "no-such-model" })),
  };
}

async function anthropic() {
  const client = new Anthropic({ baseURL: url, apiKey, ...options });
  const body = { max_tokens: 300, messages: ask };
  const say = (fields, who = client) => who.messages.create({ ...body, ...fields });
  const tools = [{ name: "get_weather", input_schema: parameters }];
  const whole = await say({ model: "words" });
  const streamed = await client.messages.stream({ ...body, model: "words" }).finalText();
  const called = await client.messages.stream({ ...body, model: "caller", tools }).finalMessage();
  const use = called.content.find((block) => block.type === "tool_use");
  const results = [{ type: "tool_result", tool_use_id: use.id, content: "12 °C" }];
  const again = [...ask, { role: "assistant", content: called.content }, { role: "user", content: results }];
  const told = await say({ model: "caller", tools, messages: again });
  const counted = await client.messages.countTokens({ model: "words", messages: ask });
  return {
    whole: whole.content[0].text,
    usage: whole.usage.output_tokens,
    streamed,
    called: [called.stop_reason, use.name, use.input],
    told: told.content[0].text,
    counted: counted.input_tokens,
    models: (await client.models.list()).data.map((model) => model.id),
    badKey: await refusedAs(say({ model: "words" }, client.withOptions({ apiKey: "sk-nonsense" }))),
    spent: await refusedAs(say({ model: "words" }, client.withOptions({ apiKey: spentKey }))),
    unknownModel: await refusedAs(say({ model: "no-such-model" })),
  };
}

console.log(JSON.stringify({ openai: await openai(), anthropic: await anthropic() }));
