// A JavaScript engine without threads: closures, exceptions, regular expressions, numbers in text.
function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

function thrower(n) {
	try {
		if (n % 3 === 0) throw { code: n };
		return n;
	} catch (e) {
		return -e.code;
	} finally {
		thrower.calls = (thrower.calls || 0) + 1;
	}
}

var sum = 0, i;
for (i = 0; i < 300; i++) sum += thrower(i);
print("fib", fib(15));
print("thrown", sum, thrower.calls);
var text = "";
for (i = 0; i < 200; i++) text += String.fromCharCode(97 + i * 7 % 26);
print("replaced", text.replace(/[aeiou]([^aeiou]+)/g, "<$1>").length, text.match(/q.*?z/)[0]);
print("numbers", 0.1 + 0.2, 1e21, -1 / 3, (255).toString(16), parseFloat("1e-7"), NaN, -0 === 0);
var rows = [];
for (i = 0; i < 50; i++) rows.push({ key: i * 37 % 50, name: "n" + i });
rows.sort(function (a, b) { return a.key - b.key; });
print("sorted", JSON.stringify(rows.slice(0, 3)));
