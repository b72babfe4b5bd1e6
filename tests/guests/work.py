"""A mix of what Python programs do: objects, dictionaries, strings, sorting, regular expressions, JSON, big integers.
usage: work.py ROUNDS"""
import json
import re
import sys


class Account:
    def __init__(self, number, owner):
        self.number, self.owner, self.balance, self.history = number, owner, 0, []

    def post(self, amount):
        self.balance += amount
        self.history.append(amount)
        return self


def numbers(seed):
    while True:
        seed = (seed * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        yield seed >> 33


def ledger(stream):
    accounts = {n: Account(n, f"owner {n % 17}") for n in range(200)}
    for _ in range(6000):
        accounts[next(stream) % 200].post(next(stream) % 1000 - 500)
    totals = {}
    for account in accounts.values():
        totals[account.owner] = totals.get(account.owner, 0) + account.balance
    richest = sorted(accounts.values(), key=lambda a: (-a.balance, a.number))[:5]
    return totals, [(a.number, a.balance, len(a.history)) for a in richest]


def words(stream):
    text = " ".join(f"w{next(stream) % 500}-{next(stream) % 7}" for _ in range(3000))
    found = re.findall(r"w(\d+)-([0-3])\b", text)
    counts = {}
    for number, suffix in found:
        counts[number] = counts.get(number, 0) + int(suffix)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:3], text.upper().count("W1")


def queens(n, row=0, columns=0, up=0, down=0):
    if row == n:
        return 1
    free = ~(columns | up | down) & (1 << n) - 1
    count = 0
    while free:
        bit = free & -free
        free ^= bit
        count += queens(n, row + 1, columns | bit, (up | bit) << 1, (down | bit) >> 1)
    return count


def main():
    stream = numbers(42)
    for turn in range(int(sys.argv[1])):
        totals, richest = ledger(stream)
        packed = json.dumps({"totals": totals, "richest": richest}, sort_keys=True)
        assert json.loads(packed)["totals"] == totals
        big = pow(3, 2000 + turn) % (10**50)
        print(turn, len(packed), richest[0], words(stream), queens(7), big)


main()
